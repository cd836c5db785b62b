"""Pull: whoever wants usage records asks for them by HTTP, a page at a time, as often as they like."""

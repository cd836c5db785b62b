"""Messages to and from brokers: connections by STOMP, sending ahead of receipts, taking and acknowledging."""

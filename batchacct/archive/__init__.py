"""The archive: closed months as Parquet files, and everything that goes on working on them."""

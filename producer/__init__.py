"""The waiter: records from arguments and files, published and acknowledged."""

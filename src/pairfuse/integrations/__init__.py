"""pairfuse with other libraries: one module for each. Import the module that you need; it needs its library."""

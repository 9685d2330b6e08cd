"""What the tests, the demo and the benchmark share: upstreams over real TLS, the real proxy, and a real curl.

Nothing in here is part of the product.
"""

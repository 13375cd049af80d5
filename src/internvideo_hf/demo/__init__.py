"""What works on a fresh machine without a network: small weights that the package holds, and a tour of them."""

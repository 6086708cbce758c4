"""A detector as a product: networks and a score that answer alike in any company, one safe folder, pictures in and verdicts out."""

"""What is known of deployments beyond their state: what they, and we about them, have written down."""

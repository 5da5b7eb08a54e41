"""What can be said about a deployment before anything of it is sent, built or started."""

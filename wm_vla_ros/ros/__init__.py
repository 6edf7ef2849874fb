"""What the nodes share: messages and values, quality of service, parameters, lifecycle, threads."""

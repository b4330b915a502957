"""What an operator looks at: every panel of the dashboards and of the status page, each with its queries."""

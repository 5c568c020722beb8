"""`ModelDeployment`: what it means, what is wrong with one, and the Kubernetes objects that serve it."""

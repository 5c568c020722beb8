output "name" {
  description = "Name of the cluster, known once its add-ons run."
  value       = aws_eks_cluster.this.name
}

output "endpoint" {
  description = "Address of the API, inside the VPC."
  value       = aws_eks_cluster.this.endpoint
}

output "security_group_id" {
  description = "Group that EKS gives to the control plane and every node of a managed group."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "node_role_arn" {
  description = "Role of the nodes; further pools use it too."
  value       = aws_iam_role.node.arn
}

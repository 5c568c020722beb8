output "vpc_id" {
  description = "Id of the VPC."
  value       = aws_vpc.this.id
}

output "cidr" {
  description = "Address range of the VPC."
  value       = aws_vpc.this.cidr_block
}

output "private_subnet_ids" {
  description = "Private subnets by zone; a pool bound to a zone picks its own."
  value       = { for zone, subnet in aws_subnet.private : zone => subnet.id }
}

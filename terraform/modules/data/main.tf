# Who may knock: the cluster's nodes and pods, at each database's one port.

locals {
  ports = merge({ postgres = 5432 }, { for use in keys(var.valkeys) : use => 6379 })
}

resource "aws_security_group" "this" {
  for_each = local.ports

  name_prefix = "${var.name}-${each.key}-"
  description = "${each.key}: reached from the cluster alone"
  vpc_id      = var.vpc_id

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "cluster" {
  for_each = local.ports

  security_group_id            = aws_security_group.this[each.key].id
  description                  = "From the cluster"
  referenced_security_group_id = var.client_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

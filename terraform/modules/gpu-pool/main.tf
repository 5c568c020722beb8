# GPU nodes: tainted, so that only what asks for a GPU comes to lie there, and bounded, since they are the bill.

locals {
  # Network cards that carry EFA. AWS offers no such number to a plan without calling it, so what is not here is refused.
  efa_cards = {
    "g6e.48xlarge"     = 4
    "p4d.24xlarge"     = 4
    "p4de.24xlarge"    = 4
    "p5.48xlarge"      = 32
    "p5e.48xlarge"     = 32
    "p5en.48xlarge"    = 16
    "p6-b200.48xlarge" = 8
  }

  # GPUs that the catalogue of models knows by a profile, and how many of them a node has.
  gpus = {
    "p4de.24xlarge"    = { profile = "a100", count = 8 }
    "p5.48xlarge"      = { profile = "h100", count = 8 }
    "p5e.48xlarge"     = { profile = "h200", count = 8 }
    "p5en.48xlarge"    = { profile = "h200", count = 8 }
    "p6-b200.48xlarge" = { profile = "b200", count = 8 }
  }

  reserved = { for name, pool in var.gpu_pools : name => pool.reservation != null }
  by_block = { for name, pool in var.gpu_pools : name => try(pool.reservation.kind, "") == "capacity-block" }
  cards    = { for name, pool in var.gpu_pools : name => pool.efa ? lookup(local.efa_cards, pool.instance_type, 0) : 0 }
}

# EFA's traffic bypasses IP: it passes only between members of one group that allow each other everything.
resource "aws_security_group" "efa" {
  name_prefix = "${var.cluster_name}-efa-"
  description = "GPU nodes that talk over EFA"
  vpc_id      = var.vpc_id

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "efa" {
  security_group_id            = aws_security_group.efa.id
  description                  = "Everything from each other"
  referenced_security_group_id = aws_security_group.efa.id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_egress_rule" "efa" {
  security_group_id            = aws_security_group.efa.id
  description                  = "Everything to each other"
  referenced_security_group_id = aws_security_group.efa.id
  ip_protocol                  = "-1"
}

# Nodes that must be near each other to make use of EFA.
resource "aws_placement_group" "this" {
  for_each = { for name, pool in var.gpu_pools : name => pool if pool.efa && !local.by_block[name] }

  name     = "${var.cluster_name}-${each.key}"
  strategy = "cluster"
}

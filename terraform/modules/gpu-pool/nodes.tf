resource "aws_launch_template" "this" {
  for_each = var.gpu_pools

  name_prefix = "${var.cluster_name}-${each.key}-"

  # EKS refuses an instance type in the node group where a template carries a capacity block.
  instance_type = each.value.instance_type

  # With network interfaces in a template the groups belong to them, not to the instance.
  vpc_security_group_ids = local.cards[each.key] == 0 ? [var.cluster_security_group_id] : null

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size = each.value.disk_gib
      volume_type = "gp3"
      encrypted   = true
    }
  }

  dynamic "network_interfaces" {
    for_each = range(local.cards[each.key])

    content {
      # The first card carries IP too; the others carry EFA alone and take no address from the pods.
      device_index          = network_interfaces.value == 0 ? 0 : 1
      network_card_index    = network_interfaces.value
      interface_type        = network_interfaces.value == 0 ? "efa" : "efa-only"
      security_groups       = [var.cluster_security_group_id, aws_security_group.efa.id]
      delete_on_termination = true
    }
  }

  dynamic "placement" {
    for_each = contains(keys(aws_placement_group.this), each.key) ? [aws_placement_group.this[each.key].name] : []

    content {
      group_name = placement.value
    }
  }

  dynamic "instance_market_options" {
    for_each = local.by_block[each.key] ? ["capacity-block"] : []

    content {
      market_type = instance_market_options.value
    }
  }

  dynamic "capacity_reservation_specification" {
    for_each = local.reserved[each.key] ? [each.value.reservation.id] : []

    content {
      capacity_reservation_target {
        capacity_reservation_id = capacity_reservation_specification.value
      }
    }
  }

  lifecycle {
    precondition {
      condition     = !each.value.efa || contains(keys(local.efa_cards), each.value.instance_type)
      error_message = "gpu_pools[${each.key}]: ${each.value.instance_type} is not known to have EFA; leave efa out or choose one of ${join(", ", keys(local.efa_cards))}."
    }
    precondition {
      condition     = !(each.value.efa || local.reserved[each.key]) || each.value.zone != null
      error_message = "gpu_pools[${each.key}]: EFA and reservations live in one zone; name it in zone."
    }
    precondition {
      condition     = each.value.zone == null ? true : contains(keys(var.subnet_ids_by_zone), each.value.zone)
      error_message = "gpu_pools[${each.key}]: the network has no subnet in that zone."
    }
  }
}

resource "aws_eks_node_group" "this" {
  for_each = var.gpu_pools

  cluster_name    = var.cluster_name
  node_group_name = each.key
  node_role_arn   = var.node_role_arn
  subnet_ids      = each.value.zone == null ? values(var.subnet_ids_by_zone) : [for zone, id in var.subnet_ids_by_zone : id if zone == each.value.zone]
  ami_type        = "AL2023_x86_64_NVIDIA"
  capacity_type   = local.by_block[each.key] ? "CAPACITY_BLOCK" : "ON_DEMAND"
  labels          = merge(each.value.labels, { "headrace.dev/pool" = each.key })

  launch_template {
    id      = aws_launch_template.this[each.key].id
    version = aws_launch_template.this[each.key].latest_version
  }

  scaling_config {
    min_size     = each.value.node_count.min
    max_size     = each.value.node_count.max
    desired_size = each.value.node_count.min
  }

  taint {
    key    = "nvidia.com/gpu"
    value  = "true"
    effect = "NO_SCHEDULE"
  }

  node_repair_config {
    enabled = true
  }

  # An autoscaler moves it; Terraform must not move it back and take nodes that serve.
  lifecycle {
    ignore_changes = [scaling_config[0].desired_size]
  }
}

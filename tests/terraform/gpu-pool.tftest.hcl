mock_provider "aws" {
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
}

variables {
  cluster_name              = "headrace"
  cluster_security_group_id = "sg-0123456789abcdef0"
  vpc_id                    = "vpc-0123456789abcdef0"
  node_role_arn             = "arn:aws:iam::123456789012:role/node"
  subnet_ids_by_zone        = { "eu-central-1a" = "subnet-0123456789abcdef0", "eu-central-1b" = "subnet-0123456789abcdef1" }
  gpu_pools = {
    flash = { instance_type = "g6e.12xlarge", node_count = { max = 4 } }
    large = {
      instance_type = "p5.48xlarge"
      node_count    = { max = 2 }
      zone          = "eu-central-1b"
      efa           = true
      reservation   = { id = "cr-0123456789abcdef0", kind = "capacity-block" }
    }
  }
}

run "a_pool_starts_empty_is_tainted_labelled_and_bounded" {
  assert {
    condition     = alltrue([for name, g in aws_eks_node_group.this : one(g.taint).key == "nvidia.com/gpu" && g.labels["headrace.dev/pool"] == name && g.scaling_config[0].min_size == 0])
    error_message = "A pool lacks its taint or label, or starts with nodes."
  }
  assert {
    condition     = aws_eks_node_group.this["flash"].scaling_config[0].max_size == 4 && length(aws_eks_node_group.this["flash"].subnet_ids) == 2
    error_message = "The bound or the zones are wrong."
  }
}

run "a_capacity_block_is_bought_in_its_zone_alone" {
  assert {
    condition     = aws_eks_node_group.this["large"].capacity_type == "CAPACITY_BLOCK" && toset(aws_eks_node_group.this["large"].subnet_ids) == toset(["subnet-0123456789abcdef1"])
    error_message = "The block's pool strays."
  }
  assert {
    condition     = aws_launch_template.this["large"].capacity_reservation_specification[0].capacity_reservation_target[0].capacity_reservation_id == "cr-0123456789abcdef0" && length(aws_placement_group.this) == 0
    error_message = "The template does not aim at the reservation."
  }
}

run "every_card_carries_efa_and_only_the_first_one_ip" {
  assert {
    condition     = length(aws_launch_template.this["large"].network_interfaces) == 32 && length([for i in aws_launch_template.this["large"].network_interfaces : i if i.interface_type == "efa"]) == 1
    error_message = "The interfaces do not match the cards."
  }
  assert {
    condition     = length(aws_launch_template.this["flash"].network_interfaces) == 0
    error_message = "A pool without EFA got its interfaces."
  }
}

run "a_floor_above_the_ceiling_is_refused" {
  command = plan
  variables {
    gpu_pools = { flash = { instance_type = "g6e.12xlarge", node_count = { min = 3, max = 2 } } }
  }
  expect_failures = [var.gpu_pools]
}

run "a_name_that_no_label_can_carry_is_refused" {
  command = plan
  variables {
    gpu_pools = { "Flash_1" = { instance_type = "g6e.12xlarge", node_count = { max = 2 } } }
  }
  expect_failures = [var.gpu_pools]
}

run "a_disk_too_small_for_an_image_is_refused" {
  command = plan
  variables {
    gpu_pools = { flash = { instance_type = "g6e.12xlarge", node_count = { max = 2 }, disk_gib = 20 } }
  }
  expect_failures = [var.gpu_pools]
}

run "an_unknown_kind_of_reservation_is_refused" {
  command = plan
  variables {
    gpu_pools = { flash = { instance_type = "g6e.12xlarge", node_count = { max = 2 }, zone = "eu-central-1a", reservation = { id = "cr-0123456789abcdef0", kind = "spot" } } }
  }
  expect_failures = [var.gpu_pools]
}

run "efa_on_an_instance_without_it_is_refused" {
  command = plan
  variables {
    gpu_pools = { flash = { instance_type = "g6e.xlarge", node_count = { max = 2 }, zone = "eu-central-1a", efa = true } }
  }
  expect_failures = [aws_launch_template.this]
}

run "a_reservation_without_a_zone_is_refused" {
  command = plan
  variables {
    gpu_pools = { flash = { instance_type = "g6e.12xlarge", node_count = { max = 2 }, reservation = { id = "cr-0123456789abcdef0", kind = "on-demand" } } }
  }
  expect_failures = [aws_launch_template.this]
}

run "a_zone_without_a_subnet_is_refused" {
  command = plan
  variables {
    gpu_pools = { flash = { instance_type = "g6e.12xlarge", node_count = { max = 2 }, zone = "eu-central-1c" } }
  }
  expect_failures = [aws_launch_template.this]
}

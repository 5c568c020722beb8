mock_provider "aws" {
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:headrace" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/headrace" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
}

variables {
  name           = "headrace"
  subnet_ids     = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  administrators = ["arn:aws:iam::123456789012:role/platform"]
  system_nodes   = { count = { min = 2, max = 6 } }
}

run "the_control_plane_is_private_and_its_secrets_are_encrypted" {
  assert {
    condition     = !aws_eks_cluster.this.vpc_config[0].endpoint_public_access && aws_eks_cluster.this.vpc_config[0].endpoint_private_access
    error_message = "The API is reachable from outside."
  }
  assert {
    condition     = aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == aws_kms_key.secrets.arn
    error_message = "Secrets are not encrypted with the cluster's key."
  }
}

run "access_is_by_entries_alone" {
  assert {
    condition     = aws_eks_cluster.this.access_config[0].authentication_mode == "API" && !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions
    error_message = "Somebody administers the cluster without being named."
  }
  assert {
    condition     = length(aws_eks_access_policy_association.administrator) == 1 && alltrue([for e in aws_eks_access_entry.administrator : contains(var.administrators, e.principal_arn)])
    error_message = "Exactly the named roles have an entry."
  }
}

run "pods_have_identities_and_cannot_take_the_nodes_own" {
  assert {
    condition     = contains(keys(aws_eks_addon.before_nodes), "eks-pod-identity-agent")
    error_message = "Pod Identity needs its agent."
  }
  assert {
    condition     = aws_launch_template.system.metadata_options[0].http_tokens == "required" && aws_launch_template.system.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "A pod can reach the node's credentials."
  }
}

run "a_user_as_administrator_is_refused" {
  command = plan
  variables {
    administrators = ["arn:aws:iam::123456789012:user/somebody"]
  }
  expect_failures = [var.administrators]
}

run "one_system_node_is_refused" {
  command = plan
  variables {
    system_nodes = { count = { min = 1, max = 6 } }
  }
  expect_failures = [var.system_nodes]
}

run "an_old_kubernetes_is_refused" {
  command = plan
  variables {
    kubernetes_version = "1.29"
  }
  expect_failures = [var.kubernetes_version]
}

run "subnets_of_one_zone_are_refused" {
  command = plan
  variables {
    subnet_ids = ["subnet-0123456789abcdef0"]
  }
  expect_failures = [var.subnet_ids]
}

run "a_name_that_aws_would_refuse_later_is_refused_now" {
  command = plan
  variables {
    name = "Head_Race"
  }
  expect_failures = [var.name]
}

run "volumes_can_be_claimed_by_a_driver_with_an_identity_of_its_own" {
  assert {
    condition     = aws_eks_addon.volumes.addon_name == "aws-ebs-csi-driver" && one(aws_eks_addon.volumes.pod_identity_association).role_arn == aws_iam_role.volumes.arn
    error_message = "A claim of a volume would wait for ever, or take the node's identity."
  }
}

run "the_control_plane_tells_everything_it_logs_for_a_year" {
  assert {
    condition     = length(aws_eks_cluster.this.enabled_cluster_log_types) == 5 && aws_cloudwatch_log_group.control_plane.retention_in_days == 365 && aws_cloudwatch_log_group.control_plane.kms_key_id == aws_kms_key.secrets.arn
    error_message = "Who did what in the cluster can't be told a year later."
  }
}

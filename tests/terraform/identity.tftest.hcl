mock_provider "aws" {
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/headrace" }
  }
}

variables {
  cluster_name = "headrace"
  services = {
    engine  = { namespace = "headrace", service_account = "engine", reads_bucket = "arn:aws:s3:::weights", keys = ["arn:aws:kms:eu-central-1:123456789012:key/weights"] }
    loader  = { namespace = "headrace", service_account = "loader", writes_bucket = "arn:aws:s3:::weights", keys = ["arn:aws:kms:eu-central-1:123456789012:key/weights"] }
    secrets = { namespace = "external-secrets", service_account = "external-secrets", reads_secrets = ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds"] }
  }
}

run "the_engine_reads_weights_and_can_change_none" {
  assert {
    condition     = !strcontains(aws_iam_role_policy.this["engine"].policy, "Put") && strcontains(aws_iam_role_policy.this["engine"].policy, "s3:GetObject") && !strcontains(aws_iam_role_policy.this["engine"].policy, "GenerateDataKey")
    error_message = "The engine may write weights."
  }
}

run "nobody_deletes_weights_and_nobody_has_a_wildcard_for_actions_or_resources" {
  assert {
    condition     = alltrue([for p in aws_iam_role_policy.this : !strcontains(p.policy, "Delete") && alltrue([for s in jsondecode(p.policy).Statement : alltrue([for a in s.Action : !strcontains(a, "*")]) && !contains(s.Resource, "*")])])
    error_message = "A role may do more than its service."
  }
}

run "a_role_is_taken_by_its_own_service_account" {
  assert {
    condition     = aws_eks_pod_identity_association.this["secrets"].service_account == "external-secrets" && length(aws_eks_pod_identity_association.this) == 3
    error_message = "An association is wrong."
  }
  assert {
    condition     = alltrue([for r in aws_iam_role.this : jsondecode(r.assume_role_policy).Statement[0].Principal.Service == "pods.eks.amazonaws.com"])
    error_message = "Something else than a pod can take the role."
  }
}

run "a_wildcard_is_refused" {
  command = plan
  variables {
    services = { secrets = { namespace = "a", service_account = "b", reads_secrets = ["*"] } }
  }
  expect_failures = [var.services]
}

run "a_role_for_nothing_is_refused" {
  command = plan
  variables {
    services = { gateway = { namespace = "a", service_account = "b" } }
  }
  expect_failures = [var.services]
}

run "two_roles_for_one_service_account_are_refused" {
  command = plan
  variables {
    services = {
      one = { namespace = "a", service_account = "b", reads_bucket = "arn:aws:s3:::weights" }
      two = { namespace = "a", service_account = "b", reads_bucket = "arn:aws:s3:::weights" }
    }
  }
  expect_failures = [var.services]
}

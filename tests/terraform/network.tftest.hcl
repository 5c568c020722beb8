mock_provider "aws" {
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:headrace" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/headrace" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
}

variables {
  name   = "headrace"
  region = "eu-central-1"
  cidr   = "10.0.0.0/16"
  zones  = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
}

run "every_zone_has_a_private_subnet_and_a_way_out_of_its_own" {
  assert {
    condition     = length(aws_subnet.private) == 3 && length(aws_nat_gateway.this) == 3
    error_message = "One private subnet and one NAT gateway a zone."
  }
  assert {
    condition     = length(distinct(concat([for s in aws_subnet.private : s.cidr_block], [for s in aws_subnet.public : s.cidr_block]))) == 6
    error_message = "Two subnets share a range."
  }
  assert {
    condition     = alltrue([for s in concat(values(aws_subnet.private), values(aws_subnet.public)) : s.map_public_ip_on_launch != true])
    error_message = "A subnet hands out public addresses."
  }
}

run "without_egress_nothing_is_public_and_the_endpoints_remain" {
  variables {
    egress = false
  }
  assert {
    condition     = length(aws_subnet.public) + length(aws_internet_gateway.this) + length(aws_route.private) == 0
    error_message = "A network without egress has a way out."
  }
  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway" && alltrue([for s in ["sts", "ecr.api", "ecr.dkr"] : contains(keys(aws_vpc_endpoint.interface), s)])
    error_message = "S3, ECR and STS must be reachable from inside."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.endpoints.cidr_ipv4 == var.cidr
    error_message = "The endpoints listen to more than the VPC."
  }
}

run "one_zone_is_refused" {
  command = plan
  variables {
    zones = ["eu-central-1a"]
  }
  expect_failures = [var.zones]
}

run "a_range_too_small_for_pods_is_refused" {
  command = plan
  variables {
    cidr = "10.0.0.0/24"
  }
  expect_failures = [var.cidr]
}

run "a_name_that_aws_would_refuse_later_is_refused_now" {
  command = plan
  variables {
    name = "Head_Race"
  }
  expect_failures = [var.name]
}

run "what_the_network_refuses_is_written_down_encrypted" {
  assert {
    condition     = aws_flow_log.refused.traffic_type == "REJECT" && aws_flow_log.refused.log_destination == aws_cloudwatch_log_group.refused.arn && aws_cloudwatch_log_group.refused.kms_key_id == aws_kms_key.flow_log.arn
    error_message = "Refused traffic leaves no trace, or one in the clear."
  }
}

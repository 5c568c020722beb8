terraform {
  required_version = ">= 1.11"

  # Bucket, key and KMS key are given to `terraform init -backend-config=...`. The state holds Valkey's tokens.
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.95, < 7.0"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { application = "headrace", environment = local.environment }
  }
}

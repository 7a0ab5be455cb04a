"""Make the buckets that are named, where they are not there yet. Address and keys come from boto3's variables."""

import sys

import boto3

s3 = boto3.client("s3")
there = {one["Name"] for one in s3.list_buckets()["Buckets"]}
for name in sys.argv[1:]:
    if name not in there:
        s3.create_bucket(Bucket=name)

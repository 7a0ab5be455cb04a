"""moto's server: it speaks S3, and IAM, which says who may use it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from api_client import until

REGION = "us-east-1"
_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
_MAKING_A_USER = 3


@contextmanager
def running(folder: Path, unchecked: int | None = None) -> Iterator[str]:
    """Yields its address. After so many ``unchecked`` requests keys, signatures and policies count; None: never."""
    env = {**os.environ, **({} if unchecked is None else {"INITIAL_NO_AUTH_ACTION_COUNT": str(unchecked)})}
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    log = folder / "s3.log"
    with log.open("w") as said:  # a pipe would be full one day
        server = subprocess.Popen(argv, stderr=said, stdout=said, env=env, cwd=folder)
    try:
        yield until(lambda: re.search(r"Running on (\S+)", log.read_text()), 60, "the S3 server's address")[1]
    finally:
        server.kill()
        server.wait()


@contextmanager
def guarded(folder: Path) -> Iterator[tuple[str, str, str]]:
    """One that lets in who has its keys, and nobody else: address, key, secret."""
    with running(folder, _MAKING_A_USER) as address:
        iam = client("iam", address, "any", "any")
        iam.create_user(UserName="team")
        made = iam.create_access_key(UserName="team")["AccessKey"]
        iam.put_user_policy(UserName="team", PolicyName="all", PolicyDocument=json.dumps(_ALL))
        yield address, made["AccessKeyId"], made["SecretAccessKey"]


def client(kind: str, address: str, key: str, secret: str) -> Any:
    """A client of our own, so that tests read what others would."""
    import boto3

    return boto3.client(
        kind, endpoint_url=address, aws_access_key_id=key, aws_secret_access_key=secret, region_name=REGION
    )

"""LitServe (https://lightning.ai/docs/litserve): a process for each core, behind one HTTP server."""

import os

import common
import litserve
from fastapi import UploadFile


class Leaves(litserve.LitAPI):
    """setup, decode, predict, encode."""

    def setup(self, device):
        self.model = common.session()

    def decode_request(self, request: UploadFile):
        return common.decode(request.file.read())

    def predict(self, batch):
        return common.infer(self.model, batch)[0]

    def encode_response(self, logits):
        return common.answer(logits)


if __name__ == "__main__":
    server = litserve.LitServer(Leaves(), accelerator="cpu", workers_per_device=os.cpu_count())
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )

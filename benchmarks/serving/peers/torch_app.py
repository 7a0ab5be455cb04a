"""FastAPI + torch, as most tutorials have it: a worker for each core, the endpoint in FastAPI's threads."""

import common
import torch
from fastapi import FastAPI, UploadFile

torch.set_num_threads(1)
app = FastAPI()
model = torch.jit.load(f"{common.FOLDER}/model.pt").eval()


@app.post("/predict")
def predict(file: UploadFile) -> dict:
    """One photo."""
    with torch.inference_mode():
        logits = model(torch.from_numpy(common.decode(file.file.read())))[0]
    return common.answer(logits.numpy())

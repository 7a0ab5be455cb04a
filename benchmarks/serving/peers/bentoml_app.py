"""BentoML (https://docs.bentoml.com): a worker for each core."""

import bentoml
import common
from PIL import Image


@bentoml.service(workers="cpu_count", traffic={"timeout": 60})
class Leaves:
    """One API, which gets the photo opened."""

    def __init__(self) -> None:
        self.model = common.session()

    @bentoml.api
    def predict(self, file: Image.Image) -> dict:
        return common.answer(common.infer(self.model, common.normalise(file))[0])

"""`mlflow models serve`: a pyfunc that takes photos in base64, as MLflow's JSON asks. Run, it writes the model."""

import base64
import os
import sys
from pathlib import Path

import mlflow.pyfunc

sys.path.insert(0, str(Path(__file__).parent))


class Leaves(mlflow.pyfunc.PythonModel):
    """One photo in a row."""

    def load_context(self, context):
        import common

        self.model = common.session()

    def predict(self, context, model_input, params=None):
        import common

        rows = model_input["photo"]
        return [common.answer(common.infer(self.model, common.decode(base64.b64decode(one)))[0]) for one in rows]


if __name__ == "__main__":
    here = str(Path(__file__).with_name("common.py"))
    mlflow.pyfunc.save_model(os.environ["MLFLOW_MODEL"], python_model=Leaves(), code_paths=[here], pip_requirements=[])

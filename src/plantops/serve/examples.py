"""Real answers of a real model, for `/docs`: resnet10t, trained on 630 PlantVillage photos of seven classes."""

from __future__ import annotations

from typing import Any

PREDICTION: dict[str, Any] = {
    "request_id": "6206d33102e941abadbf72123cd68f71",
    "prediction": "Tomato___Early_blight",
    "confidence": 0.862746227822644,
    "unsure": False,
    "unlike": False,
    "inference_time": 0.08227626200005034,
    "top5_predictions": [
        {"class": "Tomato___Early_blight", "confidence": 0.862746227822644},
        {"class": "Tomato___Late_blight", "confidence": 0.05181739538343921},
        {"class": "Potato___Late_blight", "confidence": 0.03728926006656061},
        {"class": "Pepper,_bell___healthy", "confidence": 0.017849938237298597},
        {"class": "Pepper,_bell___Bacterial_spot", "confidence": 0.01579652944863593},
    ],
    "model_info": {
        "release": "5f0c1de-3c9de73338ad",
        "digest": "c846f2ddb26c90598e68988b5a51455f728ca49820d5c20ba7b2c15bd8e7509c",
        "sample_data": False,
        "model_version": "1",
        "backbone": "resnet10t",
    },
    "timestamp": "2026-11-24T12:02:02.707+00:00",
    "explanation": {
        "class": "Tomato___Early_blight",
        "area": "crop",
        "heatmap": [
            [0.327, 0.678, 0.571, 0.238],
            [0.36, 0.797, 0.73, 0.324],
            [0.472, 0.898, 1.0, 0.541],
            [0.265, 0.498, 0.486, 0.33],
        ],
    },
}
CLASSES: dict[str, Any] = {
    "classes": [
        "Pepper,_bell___Bacterial_spot",
        "Pepper,_bell___healthy",
        "Potato___Late_blight",
        "Potato___healthy",
        "Tomato___Early_blight",
        "Tomato___Late_blight",
        "Tomato___healthy",
    ],
    "num_classes": 7,
}
OPINION = {"request_id": PREDICTION["request_id"], "class": "Tomato___Early_blight"}
THANKS = {**OPINION, "new_class": False}
ITEM = {**{key: value for key, value in PREDICTION.items() if key != "explanation"}, "filename": "leaf.jpg"}
UNREAD = {"filename": "notes.txt", "error": "not an image (JPEG, PNG, WebP, BMP, TIFF or GIF)"}
BATCH = {"results": [ITEM, UNREAD], "total": 2}


def shown(example: dict[str, Any]) -> dict[str, Any]:
    """What has a schema show it."""
    return {"examples": [example]}

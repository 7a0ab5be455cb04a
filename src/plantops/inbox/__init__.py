"""`plantops inbox`: photos that the model was unsure of, labelled by people, are what the next run learns from."""

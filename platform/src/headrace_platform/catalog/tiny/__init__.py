"""How glm-tiny is made: its data, its tokenizer, its training and the proof that it works.

Only `tokenizer` and `train` need the engine's environment; everything else imports anywhere. Nothing that
serves or bills imports from here: the product of this package is the folder `catalog/weights/glm-tiny`.
"""

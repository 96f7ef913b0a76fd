"""Trains with Keras 3, or with Keras 2 (`tf_keras`): `python keras_fit.py 3|2 VERBOSE [EPOCHS]`."""

import sys

from digits import digits

if sys.argv[1] == "3":
    import keras
else:
    import tf_keras as keras

keras.utils.set_random_seed(6)
images, labels = digits()
model = keras.Sequential(
    [
        keras.layers.Input((784,)),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
verbose = int(sys.argv[2])
epochs = int(sys.argv[3]) if len(sys.argv) > 3 else 6
model.fit(images[:2400], labels[:2400], batch_size=100, epochs=epochs, validation_split=0.2, verbose=verbose)
model.evaluate(images[2400:], labels[2400:], verbose=verbose)

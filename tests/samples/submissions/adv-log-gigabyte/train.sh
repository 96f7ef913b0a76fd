yes "Epoch 1 loss: 0.5" | head -c 1073741824

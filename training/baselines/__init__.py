"""What Embargo is measured against: simpler systems on the same data, judged the same way.

Each baseline is trained on the training documents alone and writes predictions
(training/predictions.py); `embargo evaluate --against` puts them beside the model.
"""

"""PASCAL VOC detection (table 3 of arXiv 1802.03750): Faster R-CNN on the zoo's networks.

`train` trains, `evaluate` scores a run or other people's detections, `detect` draws what a run sees in photos,
`data --check` looks a data set over. Their rooms: `data` and `check` read the devkit's folders, `boxes` and `anchors`
are geometry, `faster_rcnn` and `losses` the model, `detector` a trained run as a function, `metric` the devkit's AP,
`detections` the devkit's result files, `sweep` a detector over a split, `draw`, `page` and `report` what is looked at.

Boxes are [x1, y1, x2, y2] in 0-based pixels, both ends included, as py-faster-rcnn's: the devkit's numbers minus 1.
"""

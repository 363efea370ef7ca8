"""Detection (table 3 of arXiv 1802.03750): Faster R-CNN and RetinaNet on the networks of the zoo.

Programs: `check_dataset` validates a data set (VOC, COCO or YOLO), `train` trains, `evaluate` scores a run or result
files, and `detect` draws the objects that a run finds in photos.

Boxes are [x1, y1, x2, y2] in 0-based pixels, both ends included, as in py-faster-rcnn: the devkit's coordinates minus
1.
"""

// A stored camera frame, and what LiteRT answered to it on the computer that made this project.
#ifndef CLASSIFIER_SELF_TEST_H_
#define CLASSIFIER_SELF_TEST_H_

namespace classifier {

// Whether the frame becomes the same pixels, and the network's scores differ from LiteRT's by at most kTolerance;
// logs what it finds. Call Begin() first.
bool SelfTest();

}  // namespace classifier

#endif  // CLASSIFIER_SELF_TEST_H_

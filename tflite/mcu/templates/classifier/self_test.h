// Compares the scores for a stored camera frame with those of LiteRT on the computer that created this project.
#ifndef CLASSIFIER_SELF_TEST_H_
#define CLASSIFIER_SELF_TEST_H_

namespace classifier {

// Returns whether the preprocessed pixels are identical and the scores differ from LiteRT's by at most kTolerance, and
// logs the result. Call Begin() first.
bool SelfTest();

}  // namespace classifier

#endif  // CLASSIFIER_SELF_TEST_H_

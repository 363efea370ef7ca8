#include "self_test_data.h"

namespace classifier {

const std::uint8_t kTestFrame[2 * kTestFrameWidth * kTestFrameHeight] = {
@frame
};

const OutputValue kTestScores[kClasses] = {
@scores
};

}  // namespace classifier

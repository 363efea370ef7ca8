#include "classifier.h"

namespace classifier {

const char* const kLabels[kClasses] = {
    @labels
};

}  // namespace classifier

#include "models/step_marks.h"

#include <string>
#include <vector>

namespace autoglm::bench {
namespace {

// The layers of a step of single tokens are one graph, and the event that is waited for ends the step. Both
// calls go through here; functions of a driver's table know nothing but their arguments, so this is the
// program's.
class MarkedDriver {
 public:
  cuda::Driver table;     // what the context calls
  cuda::Driver original;  // what there is behind it

  void open(Lab& lab) {
    lab_ = &lab;
    const cuda::OpenedLibrary opened = cuda::load_driver(lab.library(), original);
    if (!opened.is_open) throw Error(ErrorCode::internal, lab.library() + ": " + opened.error);
    table = original;
    table.cuGraphLaunch.call = &launch_graph;
    table.cuEventRecord.call = &record;
    is_on_ = false;
    marks_.clear();
  }

  void begin(size_t most_steps) {
    marks_.clear();
    for (size_t i = 0; i < 2 * most_steps; ++i) marks_.emplace_back(*lab_);
    num_set_ = 0;
    is_on_ = true;
  }

  StepGaps end(int num_gaps) {
    is_on_ = false;
    const auto num_marks = static_cast<size_t>(2 * num_gaps + 1);
    if (num_set_ != num_marks) {
      throw Error(ErrorCode::internal, "expected " + std::to_string(num_marks) + " marks of " +
                                           std::to_string(num_gaps + 1) + " steps, got " +
                                           std::to_string(num_set_));
    }
    StepGaps gaps{.num_gaps = num_gaps};
    for (size_t i = 2; i < num_marks; i += 2) {
      gaps.in_gaps += marks_[i - 1].seconds_since(marks_[i - 2]);
      gaps.total += marks_[i].seconds_since(marks_[i - 2]);
    }
    marks_.clear();
    return gaps;
  }

 private:
  // Ends of steps have even numbers, the beginnings behind them odd ones.
  void set(bool is_end, cuda::CUstream stream) {
    if (!is_on_ || num_set_ == marks_.size() || is_end != (num_set_ % 2 == 0)) return;
    marks_[num_set_++].record(stream);
  }

  static cuda::CUresult launch_graph(cuda::CUgraphExec graph, cuda::CUstream stream);
  static cuda::CUresult record(cuda::CUevent event, cuda::CUstream stream);

  Lab* lab_ = nullptr;
  std::vector<TimedEvent> marks_;
  size_t num_set_ = 0;
  bool is_on_ = false;  // written while no step is under way
};

MarkedDriver& marked_driver() {
  static MarkedDriver driver;
  return driver;
}

cuda::CUresult MarkedDriver::launch_graph(cuda::CUgraphExec graph, cuda::CUstream stream) {
  marked_driver().set(false, stream);
  return marked_driver().original.cuGraphLaunch.call(graph, stream);
}

cuda::CUresult MarkedDriver::record(cuda::CUevent event, cuda::CUstream stream) {
  marked_driver().set(true, stream);
  return marked_driver().original.cuEventRecord.call(event, stream);
}

}  // namespace

std::shared_ptr<cuda::Context> open_marked_device(Lab& lab) {
  marked_driver().open(lab);
  return std::make_shared<cuda::Context>(marked_driver().table, lab.device(), cuda::embedded_modules());
}

void begin_marks(size_t most_steps) { marked_driver().begin(most_steps); }
StepGaps end_marks(int num_gaps) { return marked_driver().end(num_gaps); }

}  // namespace autoglm::bench

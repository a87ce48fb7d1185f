//! The functions of the language: names, arguments and what they yield.
//!
//! Those that Prometheus calls experimental are here as well, without a flag.

use crate::ast::ValueType::{self, Matrix, Scalar, Text, Vector};

/// What a function takes and yields.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    /// The name as it is written.
    pub name: &'static str,
    /// The types of the arguments; the last stands for all further ones.
    pub arguments: &'static [ValueType],
    /// The smallest count of arguments.
    pub count_min: usize,
    /// The largest count of arguments.
    pub count_max: usize,
    /// The type of the result.
    pub yields: ValueType,
}

macro_rules! functions {
    ($($variant:ident $name:literal [$($argument:ident),*] $min:literal..=$max:expr => $yields:ident;)*) => {
        /// A function of the language.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[allow(missing_docs, reason = "the names are the language's")]
        pub enum Function { $($variant,)* }

        impl Function {
            /// Every function.
            pub const ALL: &'static [Function] = &[$(Function::$variant,)*];

            /// Gives what the function takes and yields.
            pub const fn signature(self) -> Signature {
                match self {
                    $(Function::$variant => Signature {
                        name: $name,
                        arguments: &[$($argument),*],
                        count_min: $min,
                        count_max: $max,
                        yields: $yields,
                    },)*
                }
            }

            /// Finds a function by its name.
            pub fn named(name: &str) -> Option<Function> {
                match name {
                    $($name => Some(Function::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

/// More arguments than any expression within the bounds can hold.
const ANY: usize = usize::MAX;

functions! {
    Abs "abs" [Vector] 1..=1 => Vector;
    Absent "absent" [Vector] 1..=1 => Vector;
    AbsentOverTime "absent_over_time" [Matrix] 1..=1 => Vector;
    Acos "acos" [Vector] 1..=1 => Vector;
    Acosh "acosh" [Vector] 1..=1 => Vector;
    Asin "asin" [Vector] 1..=1 => Vector;
    Asinh "asinh" [Vector] 1..=1 => Vector;
    Atan "atan" [Vector] 1..=1 => Vector;
    Atanh "atanh" [Vector] 1..=1 => Vector;
    AvgOverTime "avg_over_time" [Matrix] 1..=1 => Vector;
    Ceil "ceil" [Vector] 1..=1 => Vector;
    Changes "changes" [Matrix] 1..=1 => Vector;
    Clamp "clamp" [Vector, Scalar, Scalar] 3..=3 => Vector;
    ClampMax "clamp_max" [Vector, Scalar] 2..=2 => Vector;
    ClampMin "clamp_min" [Vector, Scalar] 2..=2 => Vector;
    Cos "cos" [Vector] 1..=1 => Vector;
    Cosh "cosh" [Vector] 1..=1 => Vector;
    CountOverTime "count_over_time" [Matrix] 1..=1 => Vector;
    DayOfMonth "day_of_month" [Vector] 0..=1 => Vector;
    DayOfWeek "day_of_week" [Vector] 0..=1 => Vector;
    DayOfYear "day_of_year" [Vector] 0..=1 => Vector;
    DaysInMonth "days_in_month" [Vector] 0..=1 => Vector;
    Deg "deg" [Vector] 1..=1 => Vector;
    Delta "delta" [Matrix] 1..=1 => Vector;
    Deriv "deriv" [Matrix] 1..=1 => Vector;
    DoubleExponentialSmoothing "double_exponential_smoothing" [Matrix, Scalar, Scalar] 3..=3 => Vector;
    End "end" [] 0..=0 => Scalar;
    Exp "exp" [Vector] 1..=1 => Vector;
    FirstOverTime "first_over_time" [Matrix] 1..=1 => Vector;
    Floor "floor" [Vector] 1..=1 => Vector;
    HistogramAvg "histogram_avg" [Vector] 1..=1 => Vector;
    HistogramCount "histogram_count" [Vector] 1..=1 => Vector;
    HistogramFraction "histogram_fraction" [Scalar, Scalar, Vector] 3..=3 => Vector;
    HistogramQuantile "histogram_quantile" [Scalar, Vector] 2..=2 => Vector;
    HistogramQuantiles "histogram_quantiles" [Vector, Text, Scalar, Scalar] 3..=12 => Vector;
    HistogramStddev "histogram_stddev" [Vector] 1..=1 => Vector;
    HistogramStdvar "histogram_stdvar" [Vector] 1..=1 => Vector;
    HistogramSum "histogram_sum" [Vector] 1..=1 => Vector;
    Hour "hour" [Vector] 0..=1 => Vector;
    Idelta "idelta" [Matrix] 1..=1 => Vector;
    Increase "increase" [Matrix] 1..=1 => Vector;
    Info "info" [Vector, Vector] 1..=2 => Vector;
    Irate "irate" [Matrix] 1..=1 => Vector;
    LabelJoin "label_join" [Vector, Text, Text, Text] 3..=ANY => Vector;
    LabelReplace "label_replace" [Vector, Text, Text, Text, Text] 5..=5 => Vector;
    LastOverTime "last_over_time" [Matrix] 1..=1 => Vector;
    Ln "ln" [Vector] 1..=1 => Vector;
    Log10 "log10" [Vector] 1..=1 => Vector;
    Log2 "log2" [Vector] 1..=1 => Vector;
    MadOverTime "mad_over_time" [Matrix] 1..=1 => Vector;
    MaxOf "max_of" [Scalar, Scalar] 2..=2 => Scalar;
    MaxOverTime "max_over_time" [Matrix] 1..=1 => Vector;
    MinOf "min_of" [Scalar, Scalar] 2..=2 => Scalar;
    MinOverTime "min_over_time" [Matrix] 1..=1 => Vector;
    Minute "minute" [Vector] 0..=1 => Vector;
    Month "month" [Vector] 0..=1 => Vector;
    Pi "pi" [] 0..=0 => Scalar;
    PredictLinear "predict_linear" [Matrix, Scalar] 2..=2 => Vector;
    PresentOverTime "present_over_time" [Matrix] 1..=1 => Vector;
    QuantileOverTime "quantile_over_time" [Scalar, Matrix] 2..=2 => Vector;
    Rad "rad" [Vector] 1..=1 => Vector;
    Range "range" [] 0..=0 => Scalar;
    Rate "rate" [Matrix] 1..=1 => Vector;
    Resets "resets" [Matrix] 1..=1 => Vector;
    Round "round" [Vector, Scalar] 1..=2 => Vector;
    ToScalar "scalar" [Vector] 1..=1 => Scalar;
    Sgn "sgn" [Vector] 1..=1 => Vector;
    Sin "sin" [Vector] 1..=1 => Vector;
    Sinh "sinh" [Vector] 1..=1 => Vector;
    Sort "sort" [Vector] 1..=1 => Vector;
    SortDesc "sort_desc" [Vector] 1..=1 => Vector;
    SortByLabel "sort_by_label" [Vector, Text] 1..=ANY => Vector;
    SortByLabelDesc "sort_by_label_desc" [Vector, Text] 1..=ANY => Vector;
    Sqrt "sqrt" [Vector] 1..=1 => Vector;
    Start "start" [] 0..=0 => Scalar;
    StartTimestamp "start_timestamp" [Vector] 1..=1 => Vector;
    StddevOverTime "stddev_over_time" [Matrix] 1..=1 => Vector;
    StdvarOverTime "stdvar_over_time" [Matrix] 1..=1 => Vector;
    Step "step" [] 0..=0 => Scalar;
    SumOverTime "sum_over_time" [Matrix] 1..=1 => Vector;
    Tan "tan" [Vector] 1..=1 => Vector;
    Tanh "tanh" [Vector] 1..=1 => Vector;
    Time "time" [] 0..=0 => Scalar;
    Timestamp "timestamp" [Vector] 1..=1 => Vector;
    ToVector "vector" [Scalar] 1..=1 => Vector;
    TsOfFirstOverTime "ts_of_first_over_time" [Matrix] 1..=1 => Vector;
    TsOfLastOverTime "ts_of_last_over_time" [Matrix] 1..=1 => Vector;
    TsOfMaxOverTime "ts_of_max_over_time" [Matrix] 1..=1 => Vector;
    TsOfMinOverTime "ts_of_min_over_time" [Matrix] 1..=1 => Vector;
    Year "year" [Vector] 0..=1 => Vector;
}

impl Function {
    /// Says whether the result depends on the moment of evaluation even when its arguments do not.
    pub(crate) const fn reads_time(self) -> bool {
        matches!(
            self,
            Function::Time
                | Function::Timestamp
                | Function::PredictLinear
                | Function::DayOfMonth
                | Function::DayOfWeek
                | Function::DayOfYear
                | Function::DaysInMonth
                | Function::Hour
                | Function::Minute
                | Function::Month
                | Function::Year
        )
    }

    /// Says whether the function works on the samples of a range.
    pub(crate) fn is_rollup(self) -> bool {
        self.signature().arguments.contains(&Matrix)
    }
}

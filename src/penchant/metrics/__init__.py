"""What a model is measured by: numpy in, numbers out, the same for every model.

    score, label                 auc, log_loss            one number for all rows
    score, label, group          grouped_auc              one AUC a user, then their mean
    score, label, group, k       ranking                  six metrics a user, for whole lists
    score, label, group          Lists                    the same lists, for every k, in a few numbers each
    one value a user             bootstrap, paired        how sure one may be of a mean, and of a difference

Tied scores are shared evenly: every metric here is its own mean over all orders of the tied rows, so no model
gains by saying the same of everything, and none depends on the order in which its rows came.
"""

from __future__ import annotations

from penchant.metrics.calibration import CalibrationError, calibration_error, predicted_over_observed
from penchant.metrics.labelled import GroupedAUC, auc, grouped_auc, log_loss, rel_improvement
from penchant.metrics.ranking import Lists, Ranking, ranking
from penchant.metrics.resample import Difference, Interval, bootstrap, bootstrap_auc, paired

__all__ = [
    "CalibrationError",
    "Difference",
    "GroupedAUC",
    "Interval",
    "Lists",
    "Ranking",
    "auc",
    "bootstrap",
    "bootstrap_auc",
    "calibration_error",
    "grouped_auc",
    "log_loss",
    "paired",
    "predicted_over_observed",
    "ranking",
    "rel_improvement",
]

"""What happens to the signal in a trained model, as numbers and figures: layers, attention, sensitivity to length.

texts (files -> rows) and sentences (masked, placed in longer inputs)      what is measured on
stream and attention (statistics of a token) -> layers                     what every layer does
lengths                                                                    the same sentences in longer inputs
findings, inspector -> tables, figures, output                             what is said about it
"""

from flash.inspection.figures import draw_figures
from flash.inspection.inspector import Inspection, InspectionSettings, inspect_model

__all__ = ["Inspection", "InspectionSettings", "draw_figures", "inspect_model"]

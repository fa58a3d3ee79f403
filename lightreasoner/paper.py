"""The paper's constants and the tolerances that belong to them; every other file takes them from here.

The paper is arXiv 2510.07962, LightReasoner. KL is in nats throughout.
"""

ALPHA = 0.2  # plausible: at least this share of the expert's largest probability (the paper, section 3, and its code)
BETA = 0.4  # selected: steps of larger KL(expert ‖ amateur) (the paper, section 3, and its code)
ALPHA_FLOOR = 0.01  # ours: step details hold the plausible set at this α, so that no α above it needs a model
BETA_FLOOR = 0.05  # ours: datasets hold the details of steps of larger KL, so that no β above it needs a model
PREVIEW_BETAS = "0.05,0.1,0.2,0.4,1,2"  # ours: the usual grid of a preview
TEACHES = 0.01  # ours: a step teaches nothing where KL(target ‖ expert) is below this, in nats
TIE = 1e-6  # ours: tolerance in log space, since a probability of exactly α times the largest is plausible

"""Train the model of this example: ridge regression on the diabetes data that ships with scikit-learn.

Writes `model/diabetes.joblib` beside this script. Takes a second; needs no network.
"""

from pathlib import Path

import joblib
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split

features, target = load_diabetes(return_X_y=True, scaled=False)
x_train, x_test, y_train, y_test = train_test_split(features, target, test_size=0.2, random_state=0)
model = Ridge(alpha=0.1).fit(x_train, y_train)

folder = Path(__file__).parent / "model"
folder.mkdir(exist_ok=True)
joblib.dump(model, folder / "diabetes.joblib")
print(f"trained on {len(x_train)} patients; R2 on {len(x_test)} others: {model.score(x_test, y_test):.2f}")

"""What the baselines of every kind of task share: the form of what they find, and n-grams of characters."""

from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer

MAJORITY, TFIDF = "most frequent", "character n-grams (TF-IDF)"
LARGEST_VOCABULARY = 50_000
MANY_TEXTS = 500  # n-grams that occur once are left out

Found = dict[str, list[list[list[Any]]]]  # baseline -> variants -> splits -> predictions


def vectorizer_for(texts: int) -> TfidfVectorizer:
    """Weigh the 1- to 3-grams of so many texts' characters."""
    least = 2 if texts >= MANY_TEXTS else 1
    return TfidfVectorizer(
        analyzer="char", ngram_range=(1, 3), min_df=least, max_features=LARGEST_VOCABULARY, sublinear_tf=True
    )

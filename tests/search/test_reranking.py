"""Re-ranking: the order of any judge."""

import pytest

from internvideo_hf.search.hits import Hit, Hits
from internvideo_hf.search.reranking import rerank


@pytest.fixture
def hits():
    found = [
        Hit(f"/{name}.mp4", 0.0, 1.0, similarity, 0.1) for name, similarity in (("a", 0.9), ("b", 0.8), ("c", 0.7))
    ]
    return Hits("a dog", tuple(found), 10)


def test_a_function_orders_hits_and_changes_nothing_else(hits):
    asked = []

    def score(query, found):
        asked.append((query, [hit.video for hit in found]))
        return [0.0, 2.0, 2.0]

    best = rerank(hits, score, top_k=2)
    assert [hit.video for hit in best] == ["/b.mp4", "/c.mp4"] and best[0] == hits[1]
    assert asked == [("a dog", ["/a.mp4", "/b.mp4", "/c.mp4"])] and (best.query, best.clips) == ("a dog", 10)


def test_a_cross_encoder_reads_pairs(hits):
    class Encoder:
        def predict(self, pairs):
            self.pairs = pairs
            return [len(document) for _, document in pairs]

    encoder, captions = Encoder(), {"/a.mp4": "x", "/b.mp4": "xx", "/c.mp4": "xxx"}
    assert [hit.video for hit in rerank(hits, encoder, document=lambda hit: captions[hit.video])] == [*captions][::-1]
    assert encoder.pairs[0] == ("a dog", "x")
    assert len(rerank(Hits("a", (), 0), encoder)) == 0


def test_a_real_cross_encoder_is_asked(hits, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "cat"]
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(tmp_path)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = BertConfig(vocab_size=8, num_labels=1, **sizes)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    encoder = sentence_transformers.CrossEncoder(str(tmp_path), device="cpu")
    captions = {"/a.mp4": "a cat", "/b.mp4": "a dog", "/c.mp4": "dog dog"}
    scores = encoder.predict([("a dog", caption) for caption in captions.values()])
    found = [hit.video for hit in rerank(hits, encoder, document=lambda hit: captions[hit.video])]
    assert found == [video for _, video in sorted(zip(-scores, captions, strict=True))]


@pytest.mark.parametrize("scores", [[1.0], [1.0, float("nan"), 2.0]])
def test_wrong_scores_are_refused(hits, scores):
    with pytest.raises(ValueError, match="scores for 3 hits"):
        rerank(hits, lambda query, found: scores)
    with pytest.raises(TypeError, match="CrossEncoder"):
        rerank(hits, "score")
    with pytest.raises(ValueError, match="top_k=0"):
        rerank(hits, lambda query, found: [1, 2, 3], top_k=0)

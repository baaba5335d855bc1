"""What long logs are sieved by."""

from doctor.diagnose import sieve
from knowledge_base.index import index

# Words of everyday talk that stand for a failure all the same. One more makes every long log slow: its blocks are then
# searched for every word of every cause, until the sieve has learned better.
EVERYDAY_WORDS = {"Error:", "Exception:", "507033", "[X509", "_optim_states.pt", "'loss': 0.0000, 'l"}


def test_the_words_of_signatures_are_not_those_of_a_healthy_run():
    exact, any_case = index().all_words
    forms = [(word.encode(), False) for word in exact] + [(word.lower().encode(), True) for word in any_case]
    talk = {form.decode() for form, loose in forms if not sieve._parts((form, loose))}
    assert talk - index().conditions <= EVERYDAY_WORDS

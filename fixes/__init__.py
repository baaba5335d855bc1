"""How things are changed: planned whole, applied through one door, verified, undone exactly.

    from fixes.choose import Choice            # what the user said: only, yes, model, dataset, skip
    from fixes.plan import make_plan, load_plan
    from fixes.apply import apply_plan
    from fixes.verify import VerifyResult, newly_broken
    from fixes.history import history, pending, recover, undo

    plan = make_plan(findings, facts, target, Choice(only, yes, model, dataset))     # writes nothing
    plan.contract(), plan.outcomes, plan.notes, plan.save(path)
    applied = apply_plan(plan, target, facts, verify, say=print)                     # verify: cause id -> VerifyResult
    applied.outcomes, applied.journal, applied.notes, applied.rolled_back
    history(workdir); pending(workdir); recover(workdir); undo(workdir, "last", dry_run=False, force=False)

Everything raised is a fixes.errors.FixError whose text is one sentence; Refused and its kinds are gates (lock, changed
world, later edit), the others failures after which nothing is left half done.
"""

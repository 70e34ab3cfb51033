"""PyPI's openai: files of rows, fine-tuning jobs and their results, as an application uses them.

Environment: OPENAI_BASE_URL and OPENAI_API_KEY, of a key that may train. Prints one line a check; exits 1 at a failure.
"""

import io
import json
import sys
import time

try:
    import openai
except ImportError:
    print('skipped: the Python package "openai" is not installed')
    sys.exit(77)

client = openai.OpenAI()
jobs = client.fine_tuning.jobs
ANSWERS = {"sky?": "blue", "grass?": "green", "snow?": "white", "coal?": "black"}
ENDED = ("succeeded", "failed", "cancelled")
# A tiny base trains some hundred steps a second: long enough to be paused.
LONG = 20_000


def row(question, answer):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages})


def upload(name, rows):
    content = io.BytesIO("\n".join(rows).encode())
    return client.files.create(file=(name, content), purpose="fine-tune")


def create(suffix, steps, **more):
    settings = {"rank": 8, "least_steps": steps}
    hyperparameters = {"n_epochs": 3, "learning_rate_multiplier": 2}
    method = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    extra = {"graft": settings}
    return jobs.create(model="base", suffix=suffix, seed=5, method=method, extra_body=extra, **more)


def until(job, statuses):
    while True:
        now = jobs.retrieve(job)
        if now.status in statuses:
            return now
        assert now.status not in ENDED, now
        time.sleep(1)


def said(what):
    print(f"ok: {what}", flush=True)


rows = [row(*pair) for pair in ANSWERS.items()]
training, validation = upload("rows.jsonl", rows), upload("held-out.jsonl", rows[:2])
assert [file.id for file in client.files.list()] == [validation.id, training.id]
assert client.files.content(training.id).text == "\n".join(rows)
said("files are sent, listed and read")

job = create("me/answers", 120, training_file=training.id, validation_file=validation.id, metadata={"team": "a"})
assert (job.status, job.validation_file, job.metadata) == ("queued", validation.id, {"team": "a"}), job
done = until(job.id, ENDED)
assert (done.status, done.fine_tuned_model) == ("succeeded", "me/answers@1"), done
assert done.trained_tokens > 0 and done.finished_at >= done.created_at
said(f"a job is created, and succeeds: {done.trained_tokens} tokens")

events = list(jobs.list_events(job.id, limit=50))
steps = [event.data["step"] for event in events if event.type == "metrics"]
assert steps == list(range(120, -1, -1)), steps
assert events[0].message.startswith("Published as"), events[0]
said(f"{len(events)} events in three pages, newest first")

(checkpoint,) = jobs.checkpoints.list(job.id)
assert checkpoint.fine_tuned_model_checkpoint == done.fine_tuned_model and checkpoint.step_number == 120
assert checkpoint.metrics.full_valid_loss is not None
said(f"its checkpoint: {checkpoint.metrics}")

for question, answer in ANSWERS.items():
    message = {"role": "user", "content": question}
    asked = client.chat.completions.create(
        model=done.fine_tuned_model, messages=[message], temperature=0, max_tokens=12
    )
    assert asked.choices[0].message.content == answer, asked
said("the result answers as its rows say")

job = create("me/long", LONG, training_file=training.id)
until(job.id, ("running",))
assert jobs.pause(job.id).status == "paused"
assert jobs.retrieve(job.id).status == "paused"
assert jobs.resume(job.id).status in ("queued", "running")
until(job.id, ("running",))
assert jobs.cancel(job.id).status == "cancelled"
assert jobs.retrieve(job.id).fine_tuned_model is None
assert [one.id for one in jobs.list(limit=1)][0] == job.id
said("a job is paused, resumed and cancelled")

for file in (training, validation):
    assert client.files.delete(file.id).deleted
assert list(client.files.list()) == []
try:
    create("me/none", 10, training_file=training.id)
    raise AssertionError("a deleted file is trained on")
except openai.BadRequestError as error:
    assert error.param == "training_file", error
said("deleted files are gone")

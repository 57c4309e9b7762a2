"""An Airflow 3 DAG that runs once for each task that ends. Put it into the DAGs folder.

Let Taskbell start it through the public API, with a token from POST /auth/token:

    taskbell subscribe https://airflow.example.com/api/v2/dags/taskbell/dagRuns \
      --type task.succeeded --type task.failed \
      --header "Authorization: Bearer $AIRFLOW_TOKEN" \
      --shape '{dag_run_id: id, logical_date: `null`, conf: {event: id, type: type, task: data.task.id, provider: data.task.provider, model: data.task.model, url: data.task.outputs[0].url, error: data.task.error.message}}'

logical_date must be there and may be null. dag_run_id is the event's id, so an event that comes
twice does not run twice: Airflow answers 409, which Taskbell goes on trying and then keeps as dead;
nothing is lost. The token ends after a day unless [api_auth] jwt_expiration_time says otherwise:
change the header before it does.
"""

from airflow.sdk import dag, get_current_context, task


@dag(dag_id="taskbell", schedule=None, tags=["taskbell"])
def taskbell() -> None:
    @task
    def ended() -> str:
        """What became of the task: the link to its output, or the reason there is none."""
        conf = get_current_context()["dag_run"].conf
        if conf["type"] == "task.succeeded":
            return str(conf["url"])
        raise RuntimeError(f"{conf['task']} failed: {conf['error']}")

    ended()


taskbell()

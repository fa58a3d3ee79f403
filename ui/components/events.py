"""How the page's events reach their handlers: options of Gradio's event listeners."""

QUIET = {"show_progress": "hidden"}
#: Past the queue. The queue answers over one stream per page and closes it when no answer is left to send; Gradio's
#: client loses an event that it sends at that very moment. So only long-running handlers are queued.
UNQUEUED = QUIET | {"queue": False}
PRIVATE = UNQUEUED | {"api_visibility": "private"}
#: Empties the output, without asking the server.
CLEAR = PRIVATE | {"fn": None, "js": "() => ''"}

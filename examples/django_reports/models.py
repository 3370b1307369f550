"""Reports that users have asked for, and what is told of them."""

from django.conf import settings
from django.db import models
from pydantic import BaseModel

from hubbub_client.django import notify


class ReportChanged(BaseModel):
    """The event; and how a report is listed."""

    number: int
    title: str
    state: str


class Report(models.Model):
    class State(models.TextChoices):
        ASKED = "asked for"
        BEGUN = "being made"
        READY = "ready"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    title = models.CharField(max_length=200)
    state = models.CharField(max_length=20, choices=State.choices, default=State.ASKED)

    def as_event(self) -> ReportChanged:
        return ReportChanged(number=self.pk, title=self.title, state=str(self.state))

    def tell(self) -> None:
        """Tell its user how it stands, once that is committed."""
        notify(self.user_id, self.as_event())

"""The tables of `hubbub_client.outbox.table`, as Django's migrations make them.

The application writes rows, and the relay does all else. Names and columns are the library's: a
test compares them.
"""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from hubbub_client.outbox.table import MAX_NAME_LENGTH

UNSENT = Q(sent_at=None, poisoned_at=None)


class OutboxRow(models.Model):
    position = models.BigAutoField(primary_key=True)
    message_id = models.CharField(max_length=MAX_NAME_LENGTH, unique=True, db_column="id")
    subject = models.CharField(max_length=MAX_NAME_LENGTH)
    aggregate = models.CharField(max_length=MAX_NAME_LENGTH)
    payload = models.BinaryField()
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True)
    sequence = models.BigIntegerField(null=True)
    life = models.IntegerField(default=0)
    poisoned_at = models.DateTimeField(null=True)
    error = models.TextField(null=True)

    class Meta:
        db_table = "outbox"
        indexes = (
            models.Index(fields=["position"], name="ix_outbox_unsent", condition=UNSENT),
            models.Index(fields=["sent_at"], name="ix_outbox_sent", condition=~Q(sent_at=None)),
            models.Index(
                fields=["life", "sequence"], name="ix_outbox_places", condition=~Q(sequence=None)
            ),
        )


class OutboxStream(models.Model):
    name = models.CharField(max_length=32, primary_key=True)
    epoch = models.CharField(max_length=64)
    floor = models.BigIntegerField()
    life = models.IntegerField(default=0)
    lost_above = models.BigIntegerField(null=True)

    class Meta:
        db_table = "outbox_streams"


class OutboxLease(models.Model):
    name = models.CharField(max_length=32, primary_key=True)
    owner = models.CharField(max_length=64)
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "outbox_lease"

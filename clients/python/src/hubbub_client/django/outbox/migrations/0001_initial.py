"""The outbox's tables."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="OutboxLease",
            fields=[
                ("name", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("owner", models.CharField(max_length=64)),
                ("expires_at", models.DateTimeField()),
            ],
            options={
                "db_table": "outbox_lease",
            },
        ),
        migrations.CreateModel(
            name="OutboxStream",
            fields=[
                ("name", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("epoch", models.CharField(max_length=64)),
                ("floor", models.BigIntegerField()),
                ("life", models.IntegerField(default=0)),
                ("lost_above", models.BigIntegerField(null=True)),
            ],
            options={
                "db_table": "outbox_streams",
            },
        ),
        migrations.CreateModel(
            name="OutboxRow",
            fields=[
                ("position", models.BigAutoField(primary_key=True, serialize=False)),
                ("message_id", models.CharField(db_column="id", max_length=255, unique=True)),
                ("subject", models.CharField(max_length=255)),
                ("aggregate", models.CharField(max_length=255)),
                ("payload", models.BinaryField()),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("sent_at", models.DateTimeField(null=True)),
                ("sequence", models.BigIntegerField(null=True)),
                ("life", models.IntegerField(default=0)),
                ("poisoned_at", models.DateTimeField(null=True)),
                ("error", models.TextField(null=True)),
            ],
            options={
                "db_table": "outbox",
                "indexes": [
                    models.Index(
                        condition=models.Q(("poisoned_at", None), ("sent_at", None)),
                        fields=["position"],
                        name="ix_outbox_unsent",
                    ),
                    models.Index(
                        condition=models.Q(("sent_at", None), _negated=True),
                        fields=["sent_at"],
                        name="ix_outbox_sent",
                    ),
                    models.Index(
                        condition=models.Q(("sequence", None), _negated=True),
                        fields=["life", "sequence"],
                        name="ix_outbox_places",
                    ),
                ],
            },
        ),
    ]
